"""The pipeline, a file a step: plan, conform, assign, quality, stage, run."""
