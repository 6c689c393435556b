"""POST /tokenize: the tokens of texts as a model reads them. The model does not run."""

from __future__ import annotations

import asyncio
import time

import msgspec

from service.api.answers import Results, Tokenized
from service.api.exchange import Answer, Work
from service.api.models.catalog import Catalog
from service.api.models.served import check_tokens
from service.api.request import Timings
from service.api.request_bodies import Decoder, TokenizeRequest
from service.api.tasks.results import check_json
from service.endpoints import TOKENIZE
from service.problem import Problem

# Each token takes about 50 characters of the answer. A larger answer would block the event loop.
MAX_CHARACTERS = 20_000


class Tokenize:
    """The endpoint."""

    path = TOKENIZE
    decoder = Decoder(TokenizeRequest)

    def __init__(self, catalog: Catalog, max_inputs: int) -> None:
        self._catalog = catalog
        self._max_inputs = max_inputs

    async def answer(self, request: Work, body: bytes) -> Answer:
        """Raises Problem."""
        check_json(request)
        asked = self.decoder.decode(body)
        model = self._catalog.any_task(asked.model)
        request.model, request.timings = model.name, (timings := Timings())
        self._check_size(asked)
        results: list[Tokenized] = []
        for index, given in enumerate(asked.texts):
            if index:
                await asyncio.sleep(0)  # lets other requests run
            begun = time.perf_counter()
            spans = model.tokenizer.spans(given.text, given.text_pair, model.specials(asked))
            timings.tokenize += time.perf_counter() - begun
            check_tokens(f"inputs[{index}]", given, spans.text_lengths)
            results.append(
                {
                    "tokens": [model.tokenizer.tokens[token] for token in spans.ids],
                    "token_ids": spans.ids,
                    "token_type_ids": spans.token_type_ids,
                    "offsets": spans.offsets,
                    "unknown": spans.unknown,
                }
            )
        document: Results[Tokenized] = {
            "model": model.name,
            "version": model.manifest.version,
            "results": results,
            "usage": {"tokens": sum(len(result["token_ids"]) for result in results)},
        }
        return Answer(200, msgspec.json.encode(document))

    def _check_size(self, asked: TokenizeRequest) -> None:
        """Raises Problem if the request has too many texts or too much text."""
        count = len(asked.texts)
        if count > self._max_inputs:
            raise Problem("too_large", f"the request has {count} inputs, but at most {self._max_inputs} are allowed.")
        characters = sum(len(each.text) + len(each.text_pair or "") for each in asked.texts)
        if characters > MAX_CHARACTERS:
            raise Problem(
                "too_large",
                f"the texts have {characters} characters, but at most {MAX_CHARACTERS} are tokenised at once; "
                "send fewer or shorter texts.",
            )
