"""An NLA that a Gloss server holds, with the methods of a local one."""

from gloss.nla.remote.async_client import AsyncRemoteNLA
from gloss.nla.remote.sync_client import RemoteNLA
from gloss.nla.remote.wire import Connection
