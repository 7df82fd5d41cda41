"""The words of a PDF."""

from __future__ import annotations

import re
import zlib


def words_of_pdf(pdf: bytes) -> str:
    """The text of a PDF whose fonts are subsets with a map to Unicode, as fpdf2 writes them."""
    streams = []
    for found in re.finditer(rb"stream\n(.*?)\nendstream", pdf, re.S):
        try:
            streams.append(zlib.decompress(found[1]))
        except zlib.error:
            streams.append(found[1])
    maps: list[dict[int, str]] = []
    for stream in streams:
        if b"beginbfchar" in stream:
            pairs = re.findall(rb"<([0-9A-Fa-f]{4})> <([0-9A-Fa-f]+)>", stream)
            maps.append({int(a, 16): bytes.fromhex(b.decode()).decode("utf-16-be") for a, b in pairs})
    pages = [s for s in streams if b" Tf" in s]
    texts = []
    for page in pages:
        font = 0
        for token in re.finditer(rb"/F(\d+) [\d.]+ Tf|\((.*?)(?<!\\)\) ?T[jJ]|\[(.*?)\] TJ", page, re.S):
            if token[1]:
                font = int(token[1])
                continue
            raw = re.sub(rb"\\(.)", _unescaped, token[2] or token[3] or b"", flags=re.S)
            table = maps[(font - 1) % len(maps)] if maps else {}
            texts.append("".join(table.get(int.from_bytes(raw[k : k + 2], "big"), "") for k in range(0, len(raw), 2)))
    return "\n".join(texts)


def _unescaped(found: re.Match[bytes]) -> bytes:
    return {b"r": b"\r", b"n": b"\n"}.get(found[1], found[1])
