"""HTTP server for models: REST and the Open Inference Protocol, based on the public record of a prediction."""

TOKEN_VARIABLE = "HEADSTART_TOKEN"  # noqa: S105  its name
