"""What a training run says of itself: a log and a plot in its folder, and chosen loggers.

training loop ─ EpochEnd ─► monitors.py ─► run_log.py: training.csv, training.html
                                       └► loggers.py: TensorBoard, Weights & Biases, MLflow
"""
