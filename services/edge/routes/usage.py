"""GET /v1/usage: how the caller's account stands."""

from aiohttp import web

from services.edge.admission import identify_account
from services.edge.keys import METER


async def handle(request: web.Request) -> web.Response:
    """Answer with the tier, this month's minutes, credits, what is held and running, and the limits."""
    return web.json_response(await request.app[METER].usage(await identify_account(request)))
