"""Readers of data sets: each layout is built from a small analytic heart, read back, and then damaged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cardiac_diffusion_aug.attributes import GROUPS
from cardiac_diffusion_aug.datasets import READERS, Case, LoadedCase, find_reader, read_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import BACKGROUND, LV, MYO, RV

Labels = npt.NDArray[np.uint8]
SPACING = (1.4, 1.5, 8.0)
MNMS_TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
ED_FRAME, ES_FRAME, FRAMES = 1, 3, 5

# As the challenges describe them, and not taken from the code under test.
ACDC_VALUES = {BACKGROUND: 0, RV: 1, MYO: 2, LV: 3}
MNMS_VALUES = {BACKGROUND: 0, LV: 1, MYO: 2, RV: 3}


def heart(phase: str = "ED") -> Labels:
    """Labels in the project's order, base first: ellipses that shrink to the apex, and more so at ES."""
    rows, columns = np.ogrid[:30, :34]
    labels = np.zeros((4, 30, 34), np.uint8)
    for index, plane in enumerate(labels):
        size = (1 - 0.15 * index) * (1.0 if phase == "ED" else 0.8)
        for value, column, half_row, half_column in ((RV, 12, 7, 9), (MYO, 20, 8, 7), (LV, 20, 5, 4)):
            inside = ((rows - 15) / half_row) ** 2 + ((columns - column) / half_column) ** 2 <= size**2
            plane[inside] = value
    return labels


def in_order(labels: Labels, values: dict[int, int]) -> Labels:
    """Labels in the values of a data set."""
    return np.vectorize(values.__getitem__, otypes=[np.uint8])(labels)


def write(path: Path, *frames: npt.NDArray[np.generic], spacing: tuple[float, float, float] = SPACING) -> None:
    """A stack, or a cine of several frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = []
    for frame in frames:
        image = sitk.GetImageFromArray(frame)
        image.SetSpacing(spacing)
        images.append(image)
    sitk.WriteImage(images[0] if len(images) == 1 else sitk.JoinSeries(images), str(path))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def grey(phase: str) -> npt.NDArray[np.int16]:
    """Grey levels that tell the phase apart."""
    return (heart(phase) * 100 + (7 if phase == "ED" else 9)).astype(np.int16)


def build_acdc(root: Path) -> None:
    for number, group in ((1, "DCM"), (2, "NOR")):
        folder = root / f"patient{number:03d}"
        write_text(folder / "Info.cfg", f"ED: 1\nES: 12\nGroup: {group}\nHeight: 170.0\n")
        for phase, frame in (("ED", "01"), ("ES", "12")):
            write(folder / f"{folder.name}_frame{frame}.nii.gz", grey(phase))
            write(folder / f"{folder.name}_frame{frame}_gt.nii.gz", in_order(heart(phase), ACDC_VALUES))


def write_mnms_patient(folder: Path, labelled: bool = True) -> None:
    """A cine whose ED and ES frames alone are labelled."""
    images = [np.full_like(grey("ED"), 1000 + k) for k in range(FRAMES)]
    masks = [np.zeros_like(heart())] * FRAMES
    for phase, frame in (("ED", ED_FRAME), ("ES", ES_FRAME)):
        images[frame], masks[frame] = grey(phase), in_order(heart(phase), MNMS_VALUES)
    write(folder / f"{folder.name}_sa.nii.gz", *images)
    if labelled:
        write(folder / f"{folder.name}_sa_gt.nii.gz", *masks)


def build_mnms(root: Path) -> None:
    write_mnms_patient(root / "Training/Labeled/A0S9V9")
    write_mnms_patient(root / "Training/Unlabeled/B1", labelled=False)
    write_mnms_patient(root / "Testing/C2")
    frames = f"{ED_FRAME},{ES_FRAME}"
    write_text(
        root / MNMS_TABLE,
        "\ufeff,External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex\n"
        f"0,A0S9V9,Siemens,A,1,{frames},30,ARV,F\n"
        f"1,B1,GE,C,4,{frames},40,HCM,M\n"
        f"2,C2,Canon,D,5,{frames},50,LVNC,M\n"
        f"3,Z9,Philips,B,2,{frames},60,NOR,M\n",
    )


def build_mnms2(root: Path) -> None:
    for code in ("001", "042"):
        for phase in ("ED", "ES"):
            write(root / f"dataset/{code}/{code}_SA_{phase}.nii.gz", grey(phase))
            write(root / f"dataset/{code}/{code}_SA_{phase}_gt.nii.gz", in_order(heart(phase), MNMS_VALUES))
        write(root / f"dataset/{code}/{code}_LA_ED.nii.gz", grey("ED"))
    write_text(
        root / "dataset_information.csv",
        "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD\n1,LV,SIEMENS,Avanto,1.5\n42,TRI,GE,Signa,3.0\n",
    )


NNUNET_LABELS = {"background": 0, "RV": 1, "LV": 2, "myocardium": 3}
NNUNET_VALUES = {BACKGROUND: 0, RV: 1, LV: 2, MYO: 3}


def build_nnunet(root: Path) -> None:
    for patient in ("anna", "bert"):
        for phase in ("ED", "ES"):
            write(root / f"imagesTr/{patient}_{phase}_0000.nii.gz", grey(phase))
            write(root / f"labelsTr/{patient}_{phase}.nii.gz", in_order(heart(phase), NNUNET_VALUES))
    write(root / "imagesTs/carl_ED_0000.nii.gz", grey("ED"))
    describe_nnunet(root)


def describe_nnunet(root: Path, **changes: object) -> None:
    content = {"channel_names": {"0": "MR"}, "labels": NNUNET_LABELS, "numTraining": 4, "file_ending": ".nii.gz"}
    write_text(root / "dataset.json", json.dumps(content | changes))


def build_pairs(root: Path) -> None:
    for name, mask, phase in (
        ("anna_ED_slice01.nii.gz", "anna_ED_slice01_gt.nii.gz", "ED"),
        ("anna_ES.nrrd", "anna_ES_Label.nii.gz", "ES"),
        ("bert_ed.mha", "bert_ed.nrrd", "ED"),
        ("dora_seg_es.nii", "dora_seg_es_seg.mha", "ES"),
    ):
        write(root / "images" / name, grey(phase))
        write(root / "masks" / mask, in_order(heart(phase), ACDC_VALUES))
    write_text(root / "labels.json", '{"LV": 3, "MYO": 2, "RV": 1}')


BUILDERS: dict[str, Callable[[Path], None]] = {
    "acdc": build_acdc,
    "mnms": build_mnms,
    "mnms2": build_mnms2,
    "nnunet": build_nnunet,
    "pairs": build_pairs,
}


@pytest.fixture
def built(tmp_path: Path) -> Callable[[str], Path]:
    """Builds a layout by name and returns its folder."""

    def build(name: str) -> Path:
        root = tmp_path / name
        BUILDERS[name](root)
        return root

    return build


def mask_of(loaded: LoadedCase) -> Labels:
    assert loaded.mask is not None
    return np.asarray(sitk.GetArrayFromImage(loaded.mask))


def cases_of(root: Path) -> dict[str, Case]:
    return {case.name: case for case in read_cases(root)[1]}


def read_all(root: Path, load: bool) -> None:
    for case in read_cases(root)[1]:
        if load:
            case.load()


def refused(root: Path, text: str, load: bool = False) -> None:
    """Check that reading ends in one plain sentence, which holds the text."""
    with pytest.raises(CardiacError, match=text) as caught:
        read_all(root, load)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert caught.value.code == "bad_input"


def rewrite(path: Path, *replacements: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


# What all layouts share


@pytest.mark.parametrize("name", BUILDERS)
def test_a_layout_is_recognized_by_its_own_reader_alone(name: str, built: Callable[[str], Path]) -> None:
    root = built(name)
    assert [reader.NAME for reader in READERS if reader.recognizes(root)] == [name]
    assert name == find_reader(root).NAME


@pytest.mark.parametrize("name", BUILDERS)
def test_masks_come_in_the_order_used_here_with_their_own_image(name: str, built: Callable[[str], Path]) -> None:
    _, cases = read_cases(built(name))
    assert {case.phase for case in cases} == {"ED", "ES"}
    for case in cases:
        assert case.phase is not None
        loaded = case.load()
        assert np.array_equal(sitk.GetArrayFromImage(loaded.image), grey(case.phase)), case.name
        assert loaded.spacing == pytest.approx(SPACING)
        if case.labelled:
            assert np.array_equal(mask_of(loaded), heart(case.phase)), case.name
            assert loaded.mask is not None
            assert loaded.mask.GetSpacing() == pytest.approx(SPACING)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_base_is_the_end_with_the_larger_heart(name: str, built: Callable[[str], Path]) -> None:
    case = next(case for case in read_cases(built(name))[1] if case.labelled)
    assert case.load().levels() == pytest.approx([1, 2 / 3, 1 / 3, 0])


@pytest.mark.parametrize("name", BUILDERS)
def test_hidden_files_are_left_aside(name: str, built: Callable[[str], Path]) -> None:
    root = built(name)
    before = sorted(cases_of(root))
    # The marks that macOS leaves beside each file on foreign disks.
    for path in [p for p in root.rglob("*") if p.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    assert sorted(cases_of(root)) == before


def drop_masks(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file() and ("_gt." in path.name or path.parent.name in ("labelsTr", "masks")):
            path.unlink()


@pytest.mark.parametrize("name", BUILDERS)
def test_a_data_set_without_masks_is_refused(name: str, built: Callable[[str], Path]) -> None:
    root = built(name)
    drop_masks(root)
    refused(root, "no patient in it has a mask; add the label files")


@pytest.mark.parametrize("name", BUILDERS)
def test_a_value_outside_the_label_map_is_refused(name: str, built: Callable[[str], Path]) -> None:
    root = built(name)
    path = next(case.mask_path for case in read_cases(root)[1] if case.mask_path)
    image = sitk.ReadImage(str(path))
    labels = sitk.GetArrayFromImage(image)
    changed = sitk.GetImageFromArray(np.where(labels == 3, 7, labels).astype(np.uint8), isVector=False)
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))
    refused(root, f"{path.name} holds the label 7", load=True)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_mask_on_another_grid_is_refused(name: str, built: Callable[[str], Path]) -> None:
    root = built(name)
    path = next(case.mask_path for case in read_cases(root)[1] if case.mask_path)
    image = sitk.ReadImage(str(path))
    image.SetSpacing((2 * SPACING[0], *image.GetSpacing()[1:]))
    sitk.WriteImage(image, str(path))
    refused(root, "differ in size, spacing, origin or direction; resample the mask", load=True)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("part", ["image", "mask"])
def test_a_truncated_file_is_refused(name: str, part: str, built: Callable[[str], Path]) -> None:
    root = built(name)
    case = next(case for case in read_cases(root)[1] if case.labelled)
    path = case.image_path if part == "image" else case.mask_path
    assert path is not None
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(root, f"{path.name} cannot be read as an image", load=True)


def test_an_unknown_layout_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path / "scan.nii.gz", grey("ED"))
    write_text(tmp_path / "Testing/engine/notes.csv", "a,b\n")
    refused(tmp_path, "The layout of .* is not known; arrange it as one of: ACDC .*; M&Ms .*nnU-Net .*labels.json")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "There is no folder .*nowhere; check the path")


# ACDC


def test_acdc_tells_patients_and_groups(built: Callable[[str], Path]) -> None:
    found = [(c.name, c.patient, c.group) for c in read_cases(built("acdc"))[1]]
    assert found == [
        ("patient001_ED", "patient001", "DCM"),
        ("patient001_ES", "patient001", "DCM"),
        ("patient002_ED", "patient002", "NOR"),
        ("patient002_ES", "patient002", "NOR"),
    ]


@pytest.mark.parametrize("end", [1, 12])
def test_acdc_frames_come_from_the_cine_where_they_lie_there_alone(end: int, built: Callable[[str], Path]) -> None:
    root = built("acdc")
    folder = root / "patient001"
    for path in folder.glob("*_frame??.nii.gz"):
        path.unlink()
    frames = [grey("ED"), *[np.zeros_like(grey("ED"))] * 10, grey("ES")]
    write(folder / "patient001_4d.nii.gz", *frames[:end], frames[0])
    if end == 1:
        refused(root, "patient001_4d.nii.gz has 2 frames, but frame 11 is asked for", load=True)
        return
    for case in cases_of(root).values():
        assert np.array_equal(sitk.GetArrayFromImage(case.load().image), grey(case.phase or ""))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "names neither an ED nor an ES frame; restore it"),
        (b"\x1f\x8b\x08\x00\xff\xfe\x00", "names neither an ED nor an ES frame; restore it"),
        (b"ED: one\nES: 12\n", "gives 'one' as the ED frame; a number from 1 is needed"),
        (b"ED: 0\nES: 12\n", "gives '0' as the ED frame; a number from 1 is needed"),
        (b"ED: 1\nES: 13\n", "lacks patient002_frame13.nii.gz"),
    ],
)
def test_a_damaged_info_file_is_refused(content: bytes, text: str, built: Callable[[str], Path]) -> None:
    root = built("acdc")
    (root / "patient002" / "Info.cfg").write_bytes(content)
    refused(root, f"patient002.* {text}")


# M&Ms


def test_mnms_tells_groups_and_facts(built: Callable[[str], Path]) -> None:
    cases = cases_of(built("mnms"))
    assert list(cases) == ["A0S9V9_ED", "A0S9V9_ES", "B1_ED", "B1_ES", "C2_ED", "C2_ES"]
    assert [(c.patient, c.group, c.labelled) for c in cases.values() if c.phase == "ES"] == [
        ("A0S9V9", "RV", True),
        ("B1", "HCM", False),
        ("C2", None, True),
    ]
    assert cases["A0S9V9_ED"].facts == {"vendor": "Siemens", "centre": "1", "subset": "Training/Labeled"}
    assert cases["C2_ED"].facts == {"vendor": "Canon", "centre": "5", "subset": "Testing"}


@pytest.mark.parametrize("code", [("NOR", "NOR"), ("dcm", "DCM"), ("ARV", "RV"), ("HHD", None), ("", None)])
def test_mnms_pathologies_become_groups(code: tuple[str, str | None], built: Callable[[str], Path]) -> None:
    root = built("mnms")
    rewrite(root / MNMS_TABLE, (",ARV,", f",{code[0]},"))
    assert cases_of(root)["A0S9V9_ED"].group == code[1]


@pytest.mark.parametrize(
    "text",
    [
        "ES,ED,External code\n3,1,A0S9V9\n3,1,B1\n3,1,C2\n",
        "\ufeffExternal code;ED;ES;Pathology\r\nA0S9V9;1;3;NOR\r\nB1;1;3;\r\nC2;1;3;HCM\r\n",
        ',"External code",ED,ES\n0,"A0S9V9", 1.0 ,3.0\n\n,,,\n1,B1,1,3\n2,C2,1,3\n',
        "external CODE,ed,es\nA0S9V9,1,3\nA0S9V9,1,3\nB1,1,3\nC2,1,3\n",
    ],
)
def test_mnms_tables_are_read_however_they_were_saved(text: str, built: Callable[[str], Path]) -> None:
    root = built("mnms")
    write_text(root / MNMS_TABLE, text)
    assert {(case.phase, case.frame) for case in cases_of(root).values()} == {("ED", 1), ("ES", 3)}


def test_mnms_may_lie_one_level_down_and_its_table_outside(tmp_path: Path) -> None:
    build_mnms(tmp_path / "OpenDataset")
    assert len(cases_of(tmp_path)) == 6
    (tmp_path / "OpenDataset" / MNMS_TABLE).rename(tmp_path / "201014_M&Ms_Dataset_Information_-_opendataset.csv")
    assert len(cases_of(tmp_path)) == 6


def test_an_unlabelled_mnms_patient_without_frames_is_left_out(built: Callable[[str], Path]) -> None:
    root = built("mnms")
    rewrite(root / MNMS_TABLE, ("B1,GE,C,4,1,3", "B1,GE,C,4,,"))
    assert {case.patient for case in cases_of(root).values()} == {"A0S9V9", "C2"}


@pytest.mark.parametrize(
    ("replacement", "text"),
    [
        (("A0S9V9,", "A0S9V8,"), "does not list the patient A0S9V9; restore the table"),
        (("Siemens,A,1,1,3", "Siemens,A,1,first,3"), "gives 'first' as the ED frame of A0S9V9; a number from 0 is"),
        (("Siemens,A,1,1,3", "Siemens,A,1,1,-3"), "gives '-3' as the ES frame of A0S9V9; a number from 0 is"),
        (("Siemens,A,1,1,3", "Siemens,A,1,1,2.5"), "gives '2.5' as the ES frame"),
        (("Siemens,A,1,1,3", "Siemens,A,1,,"), "names neither an ED nor an ES frame of A0S9V9, which has labels"),
        (("3,Z9,", "3,C2,"), "lists C2 twice with different facts; remove the wrong row"),
        (("External code", "Code"), "lacks the column External code; restore the table"),
        ((",ED,ES,", ",X,Y,"), "lacks the column ED and ES; restore the table"),
        (("A0S9V9", '"A0S9V9'), "cannot be read as a CSV table"),
    ],
)
def test_a_damaged_mnms_table_is_refused(replacement: tuple[str, str], text: str, built: Callable[[str], Path]) -> None:
    root = built("mnms")
    rewrite(root / MNMS_TABLE, replacement)
    refused(root, f"opendataset.csv {text}")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08\x00\xff\xfe\x00\x9c" * 9])
def test_a_table_of_another_kind_is_refused(content: bytes, built: Callable[[str], Path]) -> None:
    root = built("mnms")
    (root / MNMS_TABLE).write_bytes(content)
    refused(root, "opendataset.csv (lacks the column|cannot be read as a CSV table)")


def test_a_frame_beyond_the_cine_is_refused(built: Callable[[str], Path]) -> None:
    root = built("mnms")
    rewrite(root / MNMS_TABLE, ("Siemens,A,1,1,3", f"Siemens,A,1,1,{FRAMES}"))
    refused(root, "A0S9V9_sa.nii.gz has 5 frames, but frame 5 is asked for; correct the table", load=True)


def test_mnms_without_its_table_is_refused(built: Callable[[str], Path]) -> None:
    root = built("mnms")
    (root / MNMS_TABLE).unlink()
    refused(root, r"lacks the table .*_opendataset\.csv; copy it there")


def test_a_mnms_patient_without_the_image_is_refused(built: Callable[[str], Path]) -> None:
    root = built("mnms")
    first(root, "Testing/C2/C2_sa.nii.gz").unlink()
    refused(root, "C2 lacks C2_sa.nii.gz; restore the file")


def test_a_patient_in_two_subsets_is_refused(built: Callable[[str], Path]) -> None:
    root = built("mnms")
    write_mnms_patient(root / "Validation/C2")
    refused(root, "holds the case C2_ED twice; remove the folder")


# M&Ms-2


def test_mnms2_tells_groups_and_facts(built: Callable[[str], Path]) -> None:
    cases = cases_of(built("mnms2"))
    assert {name: (c.patient, c.group) for name, c in cases.items()} == {
        "001_ED": ("001", "DCM"),
        "001_ES": ("001", "DCM"),
        "042_ED": ("042", None),
        "042_ES": ("042", None),
    }
    assert cases["042_ES"].facts == {"vendor": "GE", "scanner": "Signa", "field": "3.0"}


@pytest.mark.parametrize("code", [("NOR", "NOR"), ("HCM", "HCM"), ("RV", "RV"), ("FALL", None)])
def test_mnms2_diseases_become_groups(code: tuple[str, str | None], built: Callable[[str], Path]) -> None:
    root = built("mnms2")
    rewrite(root / "dataset_information.csv", ("1,LV,", f"001,{code[0]},"))
    assert cases_of(root)["001_ED"].group == code[1]


def test_mnms2_is_found_from_above_and_from_within(tmp_path: Path) -> None:
    build_mnms2(tmp_path / "MnM2")
    for root in (tmp_path, tmp_path / "MnM2" / "dataset"):
        reader, cases = read_cases(root)
        assert (reader.NAME, len(cases)) == ("mnms2", 4)


def test_a_folder_named_dataset_beside_a_table_of_others_is_not_mnms2(tmp_path: Path) -> None:
    write_text(tmp_path / "dataset_information.csv", "SUBJECT_CODE,DISEASE\n1,LV\n")
    build_pairs(tmp_path / "dataset")
    assert find_reader(tmp_path / "dataset").NAME == "pairs"


def test_damage_to_mnms2_is_refused(built: Callable[[str], Path]) -> None:
    root = built("mnms2")
    table = root / "dataset_information.csv"
    rewrite(table, ("42,TRI", "43,TRI"))
    refused(root, "does not list the patient 042; restore the table")
    rewrite(table, ("DISEASE", "ILLNESS"))
    refused(root, "lacks the column DISEASE")
    table.unlink()
    refused(root, "lacks dataset_information.csv; copy it there")
    build_mnms2(root)
    (root / "dataset/042/042_SA_ES.nii.gz").unlink()
    refused(root, "042 lacks 042_SA_ES.nii.gz; restore the file")


# nnU-Net


def test_nnunet_tells_patients_and_phases_by_name(built: Callable[[str], Path]) -> None:
    found = {name: (c.patient, c.phase) for name, c in cases_of(built("nnunet")).items()}
    assert found == {
        "anna_ED": ("anna", "ED"),
        "anna_ES": ("anna", "ES"),
        "bert_ED": ("bert", "ED"),
        "bert_ES": ("bert", "ES"),
    }


@pytest.mark.parametrize(
    ("name", "patient", "phase"),
    [
        ("patient001_frame01", "patient001", None),
        ("patient001_es_FRAME12_slice3", "patient001", "ES"),
        ("p1_slice02_ED", "p1", "ED"),
        ("p1_ED_2", "p1_ED_2", None),
        ("FRED", "FRED", None),
        ("p1_edema", "p1_edema", None),
        ("_ED", "_ED", "ED"),
    ],
)
def test_names_tell_the_patient(name: str, patient: str, phase: str | None, built: Callable[[str], Path]) -> None:
    root = built("nnunet")
    write(root / f"imagesTr/{name}_0000.nii.gz", grey("ED"))
    case = cases_of(root)[name]
    assert (case.patient, case.phase, case.labelled) == (patient, phase, False)


def test_a_manifest_tells_more_than_names_and_drops_the_rejected(built: Callable[[str], Path]) -> None:
    root = built("nnunet")
    write_text(
        root / "manifest.csv",
        "name,patient,phase,group,kept\nanna_ED,P7,ES,HCM,yes\nanna_ES,,,unheard of,\nbert_ED,P8,ED,RV,no\n",
    )
    found = {name: (c.patient, c.phase, c.group) for name, c in cases_of(root).items()}
    assert found == {
        "anna_ED": ("P7", "ES", "HCM"),
        "anna_ES": ("anna", "ES", None),
        "bert_ES": ("bert", "ES", None),
    }


def test_a_manifest_of_another_program_is_left_aside(built: Callable[[str], Path]) -> None:
    root = built("nnunet")
    write_text(root / "manifest.csv", "file,sha256\nimagesTr/anna_ED_0000.nii.gz,12ab\n")
    assert cases_of(root)["anna_ED"].patient == "anna"


def test_nnunet_files_end_as_its_description_says(tmp_path: Path) -> None:
    write(tmp_path / "imagesTr/anna_ED_0000.nrrd", grey("ED"))
    write(tmp_path / "imagesTr/anna_ES_0000.nii.gz", grey("ES"))
    write(tmp_path / "labelsTr/anna_ED.nrrd", in_order(heart(), NNUNET_VALUES))
    describe_nnunet(tmp_path, file_ending=".nrrd")
    assert list(cases_of(tmp_path)) == ["anna_ED"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": NNUNET_LABELS | {"RV": [1, 2]}}, "defines the label 'RV' as a region of several values; give each"),
        ({"labels": NNUNET_LABELS | {"ignore": 4}}, "names an 'ignore' label, so its masks are incomplete"),
        ({"labels": NNUNET_LABELS | {"aorta": 4}}, "names a label 'aorta' that is neither LV, MYO nor RV"),
        ({"labels": NNUNET_LABELS | {"LV": "two"}}, "gives 'two' as the value of 'LV'; write whole numbers"),
        ({"labels": NNUNET_LABELS | {"LV": 1.5}}, "gives 1.5 as the value of 'LV'; write whole numbers"),
        ({"labels": NNUNET_LABELS | {"LV": 1}}, "gives the value 1 to two labels"),
        ({"labels": {"LV": 0, "MYO": 1, "RV": 2}}, "gives 'LV' the value 0, but 0 is the background"),
        ({"labels": NNUNET_LABELS | {"background": 4}}, "gives 'background' the value 4, but 0 is the background"),
        ({"labels": {"background": 0, "LV": 1}}, "has no label for MYO and RV"),
        ({"labels": {"0": "background", "1": "LV"}}, "is of nnU-Net version 1; convert the data set with nnUNetv2_"),
        ({"labels": None}, "has no table of labels; write it as"),
        ({"file_ending": None}, "does not tell the file ending; add"),
        ({"channel_names": {"0": "cine", "1": "LGE"}}, "names 2 channels; make a data set of the cine"),
    ],
)
def test_a_description_that_does_not_tell_is_refused(
    changes: dict[str, object], text: str, built: Callable[[str], Path]
) -> None:
    root = built("nnunet")
    describe_nnunet(root, **changes)
    refused(root, rf"dataset\.json {text}")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe\x00", None])
def test_a_damaged_description_is_refused(content: bytes | None, built: Callable[[str], Path]) -> None:
    root = built("nnunet")
    (root / "dataset.json").unlink()
    if content is not None:
        (root / "dataset.json").write_bytes(content)
    refused(root, r"dataset\.json (cannot be read as JSON|does not hold a JSON object); restore")


def test_a_mask_without_its_image_is_refused(built: Callable[[str], Path]) -> None:
    root = built("nnunet")
    (root / "imagesTr/bert_ES_0000.nii.gz").unlink()
    refused(root, r"labelsTr/bert_ES\.nii\.gz has no image of that name in .*imagesTr; add the image")


# Pairs


def test_pairs_tell_patients_and_phases_by_name(built: Callable[[str], Path]) -> None:
    found = {name: (c.patient, c.phase) for name, c in cases_of(built("pairs")).items()}
    assert found == {
        "anna_ED_slice01": ("anna", "ED"),
        "anna_ES": ("anna", "ES"),
        "bert_ed": ("bert", "ED"),
        "dora_seg_es": ("dora_seg", "ES"),
    }


def test_pairs_may_call_their_masks_labels(built: Callable[[str], Path]) -> None:
    root = built("pairs")
    (root / "masks").rename(root / "labels")
    assert all(case.labelled for case in cases_of(root).values())


def test_an_image_without_a_mask_is_unlabelled(built: Callable[[str], Path]) -> None:
    root = built("pairs")
    write(root / "images/emil.nii.gz", grey("ED"))
    case = cases_of(root)["emil"]
    assert not case.labelled
    assert case.load().mask is None


def test_a_mask_keeps_to_the_image_of_its_whole_name(built: Callable[[str], Path]) -> None:
    root = built("pairs")
    # Of two images, one is named as the other one's mask would be.
    write(root / "images/scan.nii.gz", grey("ED"))
    write(root / "images/scan_seg.nii.gz", grey("ES"))
    write(root / "masks/scan_seg.nii.gz", in_order(heart("ES"), ACDC_VALUES))
    cases = cases_of(root)
    assert not cases["scan"].labelled
    assert np.array_equal(mask_of(cases["scan_seg"].load()), heart("ES"))


@pytest.mark.parametrize("missing", ["images", "masks"])
def test_both_folders_are_needed(missing: str, built: Callable[[str], Path]) -> None:
    root = built("pairs")
    (root / missing).rename(root / "others")
    refused(root, "The layout of .* is not known")


def test_pairs_without_a_label_map_are_refused(built: Callable[[str], Path]) -> None:
    root = built("pairs")
    (root / "labels.json").unlink()
    refused(root, r'lacks labels\.json, which tells .* such as {"LV": 1, "MYO": 2, "RV": 3}')


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ("[1, 2, 3]", "does not hold a JSON object"),
        ("{}", "has no table of labels"),
        ('{"LV": 1}', "has no label for MYO"),
    ],
)
def test_a_label_map_that_does_not_tell_is_refused(labels: str, text: str, built: Callable[[str], Path]) -> None:
    root = built("pairs")
    write_text(root / "labels.json", labels)
    refused(root, rf"labels\.json {text}")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("masks/frida_gt.nii.gz", r"frida_gt\.nii\.gz has no image of that name in .*images; add the image"),
        ("masks/bert_ed_mask.nii", r"bert_ed\.nrrd and bert_ed_mask\.nii are masks of one image; remove one"),
        ("images/bert_ed.nii.gz", r"holds bert_ed\.mha and bert_ed\.nii\.gz for one case; remove one"),
    ],
)
def test_files_that_do_not_pair_up_are_refused(file: str, text: str, built: Callable[[str], Path]) -> None:
    root = built("pairs")
    write(root / file, heart())
    refused(root, text)


# Real patients


@pytest.fixture(scope="module")
def patients(real_acdc: Path) -> list[Case]:
    reader, cases = read_cases(real_acdc)
    assert reader.NAME == "acdc"
    return cases


def test_real_patients_are_complete(patients: list[Case]) -> None:
    assert len(patients) == 160
    assert all(case.labelled for case in patients)
    assert Counter(case.phase for case in patients) == {"ED": 80, "ES": 80}
    group_of = {case.patient: case.group for case in patients}
    assert len(group_of) == 80
    assert Counter(group_of.values()) == dict.fromkeys(GROUPS, 16)


def ring_around(labels: Labels, value: int) -> Counter[int]:
    """How many pixels of each label touch a structure within the slices."""
    rows, columns = np.nonzero(labels.any(axis=0))
    labels = labels[:, max(rows.min() - 1, 0) : rows.max() + 2, max(columns.min() - 1, 0) : columns.max() + 2]
    inside = labels == value
    plus = ndimage.generate_binary_structure(2, 1)[None]
    return Counter(labels[ndimage.binary_dilation(inside, plus) & ~inside].tolist())


def test_the_cavity_of_real_patients_lies_within_muscle_and_its_base_is_first(patients: list[Case]) -> None:
    # A third of them, of both phases and all groups, to save time.
    for case in patients[::3]:
        loaded = case.load()
        ring = ring_around(mask_of(loaded), LV)
        assert ring[MYO] > 10 * (ring[RV] + ring[BACKGROUND]), case.name
        levels = [level for level in loaded.levels() if level is not None]
        assert levels[0] == 1, case.name
        assert levels == sorted(levels, reverse=True), case.name
