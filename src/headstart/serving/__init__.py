"""Models behind HTTP: REST and the Open Inference Protocol, on the public record of a prediction."""
