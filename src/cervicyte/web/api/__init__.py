"""The JSON API under ``/api/v1``, for programs with a token (`cervicyte.web.accounts.api_tokens`).

A cookie opens nothing here, so no page of another site can make a browser do anything. Views call the same functions
as the pages: what a user may, how often, and what is written down is the same on both ways. Reports are read here and
signed on their page alone, since a signature is a person's, proved by a password that no program should keep.
"""

from __future__ import annotations

from cervicyte.web.api import cases, cells
from cervicyte.web.api.common import blueprint

__all__ = ["blueprint", "cases", "cells"]
