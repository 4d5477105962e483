"""A replica: an async actor that holds one instance of the user's class and answers handles and HTTP.

``replica.py`` is the actor, ``slots.py`` counts its requests, ``user_code.py`` runs the user's.
"""
