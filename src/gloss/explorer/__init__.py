"""The web page over the server: static files, no build step, nothing loaded from elsewhere."""

from gloss.explorer.mount import PAGE_PATH, mount_page, open_when_ready
