"""What synthetic pairs are worth: every arm, at every number of patients, on patients who were never seen."""
