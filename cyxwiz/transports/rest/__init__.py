"""The REST door: JSON over HTTP, event streams, the page. `app.build` makes it, `server.RestServer` serves it."""
