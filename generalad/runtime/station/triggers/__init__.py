"""What begins a part, beside cameras and PLCs: HTTP, MQTT, a photo-eye."""
