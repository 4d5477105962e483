"""The protocols of other servers, as decisions: requests from bytes, answers to bytes.

``skate.serve.openai`` and ``skate.serve.inference_protocol`` have the deployments that speak them.
"""
