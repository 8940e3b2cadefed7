"""The app: Gradio only, a client of `distill_core.api` and of nothing deeper."""
