"""Let in webhooks with a good signature: `file:examples/webhook.py:key=@FILE:path=/hook`."""

from hashlib import sha256
from hmac import compare_digest, new
from typing import Annotated

from sitio import Exchange, Response, onRequest
from sitio.policy.kinds import Secret
from sitio.policy.options import About


def makePolicy(
    *,
    key: Annotated[Secret, About("the key that both sides know")],
    path: Annotated[str, About("where webhooks arrive", shown=True)] = "/",
) -> object:
    """Refuse webhooks without a good HMAC of their body in X-Signature."""

    # The whole body is there, however it arrives; one that is too long gets 413.
    @onRequest(buffered=True)
    def webhook(exchange: Exchange) -> Response | None:
        request = exchange.request
        if not request.path.startswith(path):
            return None
        good = "sha256=" + new(key.encode(), request.body, sha256).hexdigest()
        if compare_digest(request.headers.get("X-Signature", "").encode(), good.encode()):
            return None
        return Response(403, text="The signature is wrong.\n")

    return webhook
