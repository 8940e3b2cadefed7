"""Distill Studio: `python app.py` builds the app and opens it in the browser."""

from ui.layout import launch

if __name__ == "__main__":
    launch()
