"""A small client of the language server protocol: just what an editor asks of a YAML file."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Queue
from typing import Any

Json = Mapping[str, Any]

_PATIENCE = 30


class Editor:
    """A YAML language server that has one schema for every file, and documents open in it.

    Positions are a line and a column, from 0. Messages go over stdio, each behind its length.
    """

    def __init__(self, command: list[str], schema: Path, folder: Path) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self._folder = folder
        self._number = 0
        self._answers: Queue[Json] = Queue()
        self._diagnostics: dict[str, Queue[list[Json]]] = {}
        self._settings = {
            "schemas": {schema.as_uri(): "*.yaml"},
            "validate": True,
            "completion": True,
            "hover": True,
            "schemaStore": {"enable": False},
        }
        threading.Thread(target=self._listen, daemon=True).start()
        capabilities = {
            "textDocument": {
                "completion": {"completionItem": {"documentationFormat": ["markdown"]}},
                "hover": {"contentFormat": ["markdown"]},
                "publishDiagnostics": {},
            },
            "workspace": {"configuration": True, "didChangeConfiguration": {}},
        }
        self._ask("initialize", {"processId": None, "rootUri": folder.as_uri(), "capabilities": capabilities})
        self._tell("initialized", {})
        self._tell("workspace/didChangeConfiguration", {"settings": {"yaml": self._settings}})

    def open(self, name: str, text: str) -> str:
        """Open a document; its URI."""
        uri = (self._folder / name).as_uri()
        self._diagnostics[uri] = Queue()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        return uri

    def complete(self, uri: str, line: int, column: int) -> dict[str, Json]:
        """What is offered at a place, by label."""
        found = self._ask("textDocument/completion", _at(uri, line, column))
        return {item["label"]: item for item in (found or {"items": []})["items"]}

    def hover(self, uri: str, line: int, column: int) -> str:
        """The text that is shown at a place."""
        found = self._ask("textDocument/hover", _at(uri, line, column))
        return "" if found is None else str(found["contents"]["value"])

    def diagnostics(self, uri: str) -> list[Json]:
        """What is wrong with a document that was opened."""
        return self._diagnostics[uri].get(timeout=_PATIENCE)

    def close(self) -> None:
        """End the server."""
        self._ask("shutdown", None)
        self._tell("exit", None)
        self._process.wait(_PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _ask(self, method: str, params: Any) -> Any:
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        answer = self._answers.get(timeout=_PATIENCE)
        assert answer["id"] == self._number
        assert "error" not in answer, answer
        return answer["result"]

    def _tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: Json) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _listen(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while header := stream.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                header = stream.readline()
            self._take(json.loads(stream.read(length)))

    def _take(self, message: Json) -> None:
        if "method" not in message:
            self._answers.put(message)
        elif message["method"] == "textDocument/publishDiagnostics":
            uri = message["params"]["uri"]
            if uri in self._diagnostics:
                self._diagnostics[uri].put(message["params"]["diagnostics"])
        elif message["method"] == "workspace/configuration":
            sections = [item.get("section") for item in message["params"]["items"]]
            result = [self._settings if section == "yaml" else {} for section in sections]
            self._send({"id": message["id"], "result": result})
        elif "id" in message:
            self._send({"id": message["id"], "result": None})


def _at(uri: str, line: int, column: int) -> Json:
    return {"textDocument": {"uri": uri}, "position": {"line": line, "character": column}}
