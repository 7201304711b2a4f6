"""The inner update: policy-gradient estimators and the choice of fast weights."""
