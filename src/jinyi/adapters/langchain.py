"""LangChain's interface of embedding models: embed_documents, embed_query and their asynchronous twins."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from typing import Any

from jinyi.adapters.opening import opened
from jinyi.errors import InputError, shorten
from jinyi.models.common import check_truncate
from jinyi.models.sentence_encoder import SentenceEncoder

# The names under which models keep such prompts, as sentence-transformers looks them up.
_QUERY = ("query",)
_DOCUMENT = ("document", "passage", "corpus")


class LangChainEmbeddings:
    """Sentence vectors for LangChain's vector stores and for whatever else calls `embed_documents` and `embed_query`.

    LangChain is not needed. Where it is loaded, `isinstance(this, langchain_core.embeddings.Embeddings)` holds, which
    some of its stores ask. Calling the object embeds one text.

    Args:
        model: None for the shipped model, a name (`jinyi models list`), a folder, or an opened `SentenceEncoder`.
        query_prompt: text put before each query; None takes the folder's prompt `query`, else its default prompt.
        document_prompt: text put before each document; None takes the folder's prompt `document`, `passage` or
            `corpus`, else its default prompt.
        normalize: divide vectors by their length, so that a store's dot product is the cosine.
        truncate: what happens to texts that are too long: "warn", "error" or "window", as in `SentenceEncoder.encode`.
        options: for `SentenceEncoder.load`: precision, threads, device, pooling.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: the folder is incomplete or damaged, or states no pooling.
        InputError: no such way to truncate.
        TypeError: an option for a model that is open already.

    Example:
        >>> store = InMemoryVectorStore(LangChainEmbeddings())
        >>> store.add_texts(["怎么修改登录密码", "如何注销账号"])
        >>> store.similarity_search("密码忘了", k=1)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceEncoder | None = None,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        normalize: bool = True,
        truncate: str = "warn",
        **options: Any,
    ) -> None:
        check_truncate(truncate)
        self.encoder = opened(SentenceEncoder, model, options)
        self._query = _prompt(self.encoder, query_prompt, _QUERY)
        self._document = _prompt(self.encoder, document_prompt, _DOCUMENT)
        self._normalize, self._truncate = normalize, truncate
        _be_known_to_langchain()

    def __call__(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return self.embed_query(text)

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Return one vector for each text.

        Raises:
            InputError: not text, or nothing to read in it; names the row. One text in place of a list.
        """
        if isinstance(texts, str):
            raise InputError(
                found=f"one text, {shorten(texts)}",
                expected="a list of texts",
                fix="Put it into a list, or call embed_query.",
            )
        return self._embed(texts, *self._document)

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query.

        Raises:
            InputError: not text, or nothing to read in it.
        """
        return self._embed([text], *self._query)[0]

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Return what `embed_documents` returns; the event loop runs on meanwhile."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Return what `embed_query` returns; the event loop runs on meanwhile."""
        return await asyncio.to_thread(self.embed_query, text)

    def _embed(self, texts: Iterable[str], prompt: str | None, prompt_name: str | None) -> list[list[float]]:
        vectors = self.encoder.encode(
            texts,
            prompt=prompt,
            prompt_name=prompt_name,
            normalize=self._normalize,
            truncate=self._truncate,
        )
        listed: list[list[float]] = vectors.tolist()
        return listed


def _prompt(
    encoder: SentenceEncoder, given: str | None, names: tuple[str, ...]
) -> tuple[str | None, str | None]:
    """Return `prompt` and `prompt_name` for `encode`; neither where the folder's default applies."""
    if given is not None:
        return given, None
    return None, next((name for name in names if name in encoder.prompts), None)


def _be_known_to_langchain() -> None:
    """Have `isinstance(..., Embeddings)` hold, if LangChain is loaded: an abstract class takes virtual subclasses."""
    module = sys.modules.get("langchain_core.embeddings.embeddings")
    if module is not None:
        module.Embeddings.register(LangChainEmbeddings)
