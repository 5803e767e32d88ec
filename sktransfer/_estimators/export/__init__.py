"""Fitted estimators as programs and files that need no sktransfer to run."""
