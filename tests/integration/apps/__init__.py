"""Small applications that gunicorn serves in tests."""
