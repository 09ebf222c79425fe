"""Property-based cases: draw from a contract's whole parameter space, shrink what fails.

`space` and one module for each operator say what there is to draw, `campaign` judges and shrinks,
`found` keeps what failed. Needs hypothesis, and no torch.
"""
