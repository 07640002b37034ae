"""PROCESSES uvicorn workers on PORT."""

import os

import uvicorn

if __name__ == "__main__":
    uvicorn.run(
        "app:app",
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8000")),
        workers=int(os.environ.get("PROCESSES", "1")),
        access_log=False,
        log_level="warning",
        backlog=4096,
    )
