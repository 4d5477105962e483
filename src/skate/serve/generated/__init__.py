"""Messages and a client of ``RayServeAPIService``, under the names that Ray's generated modules have."""
