"""The libraries that run artifacts: ONNX Runtime, OpenVINO and TensorRT, each as a `Session`."""
