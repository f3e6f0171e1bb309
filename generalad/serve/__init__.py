"""`gad serve`: models behind HTTP.

    Protocol (slow clients) ─► Access (token, hosts) ─► Service (routes)
        ├─ PredictionRequests: body ─► images ─► Batcher ─► Predictor ─► JSON
        └─ Model: versions, swap after the golden samples, rollback

Never imports torch. The package can be called: `generalad.serve(...)` is `server.serve`.
"""

from __future__ import annotations

from generalad.callable_module import make_callable

make_callable(__name__, "generalad.serve.server:serve")
