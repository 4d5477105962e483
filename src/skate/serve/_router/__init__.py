"""Which request goes to which replica: the two sides of lending credits, as tables.

A replica has as many *credits* as it may run requests at a time, and lends them to the routers that want
some. A router, one for each process and deployment, sends a request only with a credit, so that nothing is
refused or sent twice because a replica was full; until a credit is there, the request waits in the router,
and the oldest goes first.

::

    router                                         lender, in the replica
    report(wanted, held, received) ------------->  remembers; answers when there is something to say
    answer(granted, recalled) <------------------  credits came free, or another router needs one
    a request, with a credit ------------------->  runs it
    its result <---------------------------------  a result brings the credit back, an error does not

In the steady state no message but requests and results is sent. Reports are absolute: ``received`` counts all
credits that ever came to the router, so that the lender knows which are still on their way, whatever was
lost, superseded or cancelled meanwhile.
"""
