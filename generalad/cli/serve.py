"""`gad serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from generalad.cli.options import Argument, Device, Option, Threads

BOUNDS = "What is refused"


def serve(
    artifacts: Annotated[
        Sequence[Path],
        Argument("Exported files, or folders of versions, of which one is served at a time."),
    ] = (),
    config: Annotated[
        Path | None, Option("A line as TOML, whose streams the page shows.", metavar="FILE")
    ] = None,
    state: Annotated[
        Path | None,
        Option("Of the review and the audit trail.", metavar="DIR", default="that of the line"),
    ] = None,
    follow: Annotated[
        str | None,
        Option("Folder or URL that says which versions are wanted.", metavar="ADDRESS"),
    ] = None,
    shadow: Annotated[
        float,
        Option(
            "A wanted version is compared so long before and after it serves.", metavar="S", least=0
        ),
    ] = 600.0,
    host: Annotated[
        str, Option("Address to listen at; one that others reach needs --token.", metavar="HOST")
    ] = "127.0.0.1",
    port: Annotated[int, Option("0 takes a free one.", least=0, most=65535)] = 8080,
    token: Annotated[
        str | None,
        Option("What clients must show: '${NAME}' or '${file:PATH}'.", metavar="REFERENCE"),
    ] = None,
    tls_cert: Annotated[
        Path | None, Option("Certificate for HTTPS, as PEM with its chain.", metavar="FILE")
    ] = None,
    tls_key: Annotated[
        Path | None, Option("Its key, as PEM that is not encrypted.", metavar="FILE")
    ] = None,
    batch: Annotated[
        int | None,
        Option("Most images a run of the network.", least=1, default="1 on a CPU, 8 on a GPU"),
    ] = None,
    max_wait: Annotated[
        float, Option("An image waits so long for others.", metavar="MS", least=0)
    ] = 5.0,
    max_body: Annotated[
        float, Option("Of a request.", metavar="MB", least=0.001, group=BOUNDS)
    ] = 32.0,
    max_megapixels: Annotated[
        float, Option("Of an image.", metavar="N", least=0.001, group=BOUNDS)
    ] = 24.0,
    max_in_flight: Annotated[
        int, Option("Images at a time; beyond, the answer is 429.", least=1, group=BOUNDS)
    ] = 64,
    timeout: Annotated[
        float, Option("From request to answer.", metavar="S", least=0.001, group=BOUNDS)
    ] = 10.0,
    client_timeout: Annotated[
        float,
        Option(
            "For a client to send, and to take its answer.", metavar="S", group=BOUNDS, least=0.001
        ),
    ] = 10.0,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Serve artifacts over HTTP until Ctrl-C.

    Images are posted to /v1/models/NAME/predict, alone or as a form; the answer is JSON with what
    gad infer says. Versions are exchanged while requests go on. /openapi.json describes it all,
    /metrics is for Prometheus.

    With --config the streams of a line run too, as with gad infer, and / is a page that shows
    them: images, scores, thresholds, events to review, models.

    Examples:
        gad serve washer.onnx board.onnx
        curl --data-binary @part.png localhost:8080/v1/models/washer/predict
        curl -F a=@1.png -F b=@2.png 'localhost:8080/v1/models/washer/predict?map=png'
        gad serve --config line.toml
        gad serve models/washer/ --follow /mnt/fleet
        gad serve models/washer/ --host 0.0.0.0 --token '${GAD_TOKEN}'
        gad serve washer.onnx --tls-cert cert.pem --tls-key key.pem
    """
    from generalad.errors import require_extra

    require_extra("gad serve", "serve", "starlette", "uvicorn", "prometheus_client")
    from generalad.serve.server import serve as run
    from generalad.serve.settings import Settings

    settings = Settings(
        batch=batch,
        max_wait=max_wait / 1000,
        threads=threads,
        device=device,
        max_body=int(max_body * 1e6),
        max_megapixels=max_megapixels,
        max_in_flight=max_in_flight,
        timeout=timeout,
        client_timeout=client_timeout,
    )
    run(
        artifacts,
        config=config,
        state=state,
        follow=follow,
        shadow=shadow,
        host=host,
        port=port,
        token=token,
        tls_cert=tls_cert,
        tls_key=tls_key,
        settings=settings,
        on_start=_started,
    )


def _started(url: str) -> None:
    sys.stderr.write(f"gad: serves at {url}, Ctrl-C ends it\n")
    sys.stderr.flush()
