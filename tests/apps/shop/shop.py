"""The shop: `gunicorn -c python:mintflow_realtime.app.gunicorn shop:application`."""

from factory import create_app

app = create_app()
application = app.extensions["mintflow"].wsgi_app
