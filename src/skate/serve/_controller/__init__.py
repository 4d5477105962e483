"""The controller: brings about what ``serve.run`` asked for, and keeps it so.

``deployment.py`` decides for one deployment, ``statuses.py`` says how it stands; ``controller.py`` is the
actor, which carries the commands out and reports what came of them. Each target is stored before it is
acknowledged.
"""
