"""A language model behind an OpenAI-compatible endpoint that gives scores from 0 to 5."""

import json
import os
import re
import time
from dataclasses import dataclass

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError


KEY_VARIABLE = "LMMVQA_JUDGE_KEY"
# Of one request that the server refuses for the moment, or does not answer; and of one that it answers badly
ATTEMPTS, ATTEMPTS_AT_SCORE = 6, 3
LONGEST_WAIT = 60.0
# What the HTTP library raises without a connection, and OSError
CONNECTION_ERRORS = (*HfHubHTTPError.__bases__, InferenceTimeoutError)


@dataclass
class Judge:
    """
    Attributes:
        url: of the endpoint, such as http://localhost:8000/v1, or with its whole path up to chat/completions.
        model: as the endpoint names it.
        timeout: seconds that an answer may take.
        first_wait: seconds before a request is made again; twice as long each time, or as long as the server says.
        max_tokens: of a reply.
    """

    url: str
    model: str
    timeout: float = 120.0
    first_wait: float = 1.0
    max_tokens: int = 512

    def __post_init__(self):
        if not re.match(r"https?://", self.url):
            raise ValueError(
                f"got the judge's address {self.url!r}, expected one that begins with http:// or https://"
            )
        # Without a key the client would send the Hub's token to whatever server this is
        key = os.environ.get(KEY_VARIABLE) or "none"
        self._client = InferenceClient(base_url=self.url, api_key=key, timeout=self.timeout)

    def score(self, system: str, prompt: str) -> tuple[float | None, str]:
        """
        The score, and the reply that it stands in; None where several replies held no score, with the last of them.

        Raises:
            ValueError: the endpoint refuses the request.
            OSError: it did not answer, however often it was asked.
        """
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        for _ in range(ATTEMPTS_AT_SCORE):
            reply = self._reply(messages)
            if (score := read_score(reply)) is not None:
                break
        return score, reply

    def _reply(self, messages: list[dict[str, str]]) -> str:
        waits = iter([min(self.first_wait * 2**number, LONGEST_WAIT) for number in range(ATTEMPTS - 1)])
        while True:
            try:
                output = self._client.chat_completion(
                    messages, model=self.model, max_tokens=self.max_tokens, temperature=0.0
                )
                return output.choices[0].message.content or ""
            except HfHubHTTPError as error:
                status, announced = error.response.status_code, error.response.headers.get("Retry-After", "")
                if status != 429 and status < 500:
                    raise ValueError(
                        f"got status {status} from the judge at {self.url}, expected a chat completion; look at "
                        f"--judge_url, --judge_model and {KEY_VARIABLE}: {error.response.text[:200]}"
                    ) from error
                reason = f"status {status}"
            except CONNECTION_ERRORS as error:
                reason, announced = str(error) or type(error).__name__, ""
            except (ValueError, TypeError, AttributeError, KeyError, IndexError):  # the body is no chat completion
                return ""
            wait = next(waits, None)
            if wait is None:
                raise OSError(
                    f"got no answer from the judge at {self.url} in {ATTEMPTS} attempts ({reason}), expected one; start "
                    "it, and run the same command again: it goes on where it was"
                )
            time.sleep(min(float(announced), LONGEST_WAIT) if announced.isdecimal() else wait)


def read_score(reply: str) -> float | None:
    """The score of a reply that holds one object {"score": number from 0 to 5}, whatever stands around it."""
    objects = re.findall(r"\{[^{}]*\}", reply)
    if len(objects) != 1:
        return None
    try:
        score = json.loads(objects[0]).get("score")
    except ValueError:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 5:
        return None
    return float(score)
