"""The model at work: a queue of requests, the predictor, threads for waiting pictures."""
