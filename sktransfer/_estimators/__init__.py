"""scikit-learn's contract: parameters, validation, fit, predict; NumPy in and out."""
