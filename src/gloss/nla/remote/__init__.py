"""An NLA that a Gloss server holds, with the methods of a local one."""

from gloss.nla.remote.client import AsyncRemoteNLA, Connection, RemoteNLA

__all__ = ["AsyncRemoteNLA", "Connection", "RemoteNLA"]
