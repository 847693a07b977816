"""What figures are worth: metrics, groups, paired tests, and whether the samples can stand for others."""
