"""A page to play with: faces, digits, labels, and why the original's digits stayed noise.

    python3 -m playground
    python3 -m playground --port 7861 --no-browser

Opens in the browser and is served to this computer alone (127.0.0.1).  Nothing is sent to or loaded from elsewhere.
Ctrl-C ends it.  It needs requirements-playground.txt.
"""

from common.start import run_script

import os
import sys
import tempfile
import webbrowser
from dataclasses import dataclass

from common.config import UserError, option, parse_config
from common.device import pick_device

MAX_BYTES = 32 * 1024 * 1024  # of an image that is dropped


@dataclass(frozen=True)
class Config:
    port: int = option(7860, "of the page, on 127.0.0.1", low=1, high=65535)
    browser: bool = option(True, "open the page in the browser")
    device: str = option("auto", "auto, cpu, cuda, mps ...")


def main() -> None:
    config = parse_config(Config, __doc__)
    # gradio reads these when it is imported: it would else count its users and ask for its newest version.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    try:
        import gradio as gr
    except ImportError:
        raise UserError("gradio is missing, run: pip install -r requirements-playground.txt") from None
    from playground import page
    from playground.answers import load_networks

    device = pick_device(config.device, repeatable=True)
    with tempfile.TemporaryDirectory(prefix="playground-") as folder:  # of the images that are dropped
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = page.build(load_networks(device))
        try:
            blocks.launch(
                server_name="127.0.0.1",
                server_port=config.port,
                share=False,
                quiet=True,
                max_file_size=MAX_BYTES,
                footer_links=[],
                ssr_mode=False,
                prevent_thread_lock=True,
                theme=gr.themes.Default(primary_hue="indigo", **page.FONTS),
                css=page.CSS,
            )
        except OSError:
            raise UserError(f"port {config.port} is taken, use another --port") from None
        print(f"http://127.0.0.1:{config.port} (Ctrl-C ends it)", flush=True)
        if config.browser:
            webbrowser.open(f"http://127.0.0.1:{config.port}")
        blocks.block_thread()


if __name__ == "__main__":
    sys.argv[0] = "playground"
    run_script(main)
