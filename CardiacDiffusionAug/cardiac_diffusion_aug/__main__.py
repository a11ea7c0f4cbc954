"""`python -m cardiac_diffusion_aug` is the command."""

import sys

from .cli import main

sys.exit(main())
