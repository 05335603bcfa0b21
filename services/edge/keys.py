"""Where the application keeps what its handlers share."""

import asyncio

from aiohttp import web

from services.edge.accounts.authentication import Authenticator
from services.edge.backends import Backends
from services.edge.media.decoder import Decoder
from services.edge.media.spool import Spool
from services.edge.metering.meter import Meter
from services.edge.metering.store import Store
from services.edge.settings import EdgeSettings
from services.edge.stream.session import Session

SETTINGS = web.AppKey("settings", EdgeSettings)
BACKENDS = web.AppKey("backends", Backends)
SPOOL = web.AppKey("spool", Spool)
DECODER = web.AppKey("decoder", Decoder)
STORE = web.AppKey("store", Store)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
METER = web.AppKey("meter", Meter)
STOPPING = web.AppKey("stopping", asyncio.Event)
SESSIONS: web.AppKey[set[Session]] = web.AppKey("sessions")
