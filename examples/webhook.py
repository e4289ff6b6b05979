"""Let in webhooks with a good signature: `file:examples/webhook.py:key=@FILE`."""

from hashlib import sha256
from hmac import compare_digest, new
from typing import Annotated

from sitio import Exchange, Response, onRequest
from sitio.policy.kinds import Secret
from sitio.policy.options import About


def makePolicy(
    *,
    key: Annotated[Secret, About("the key that both sides know")],
    field: Annotated[str, About("the field with the signature", shown=True)] = "X-Signature",
) -> object:
    """Refuse requests without a good HMAC of their body in a field."""

    # The whole body is there, however it arrives; one that is too long gets 413.  All paths need
    # a signature, as /hook has many spellings, such as /%68ook.
    @onRequest(buffered=True)
    def webhook(exchange: Exchange) -> Response | None:
        request = exchange.request
        good = "sha256=" + new(key.encode(), request.body, sha256).hexdigest()
        if compare_digest(request.headers.get(field, "").encode(), good.encode()):
            return None
        return Response(403, text="The signature is wrong.\n")

    return webhook
