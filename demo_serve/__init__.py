"""An OCR service at work: ``python -m demo_serve``.

It starts ``examples/serve/ocr_service.py``, has clients send pictures of words, updates the service and kills
one of its processes while they do, and prints how many requests failed and how long they took.

cli                      arguments, and the order of things
clients                  the load, and what came of each request
table                    what a person gets
memory                   of all processes of the session
"""
