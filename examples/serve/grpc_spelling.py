"""A service of gRPC that corrects words, alone and while they are typed.

Its messages are StringValues, which protobuf brings along, so that nothing has to be generated. The function
``add_SpellerServicer_to_server``, which grpcio-tools would make of a .proto file, is written by hand. The
process that answers gRPC for all replicas imports it by the name of this file.
"""

import difflib
import sys
from pydoc_data.topics import topics

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from skate import serve


def add_SpellerServicer_to_server(servicer, server):
    text = (StringValue.FromString, StringValue.SerializeToString)
    methods = {
        "Correct": grpc.unary_unary_rpc_method_handler(servicer.Correct, *text),
        "Follow": grpc.stream_stream_rpc_method_handler(servicer.Follow, *text),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("spelling.Speller", methods)])


@serve.deployment(num_replicas=2)
class Speller:
    def __init__(self):
        self.words = sorted({word for text in topics.values() for word in text.split() if word.isalpha()})

    def nearest(self, word):
        return next(iter(difflib.get_close_matches(word, self.words, 1, 0.7)), None)

    def Correct(self, word, grpc_context):
        found = self.nearest(word.value)
        if found is None:
            grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
            grpc_context.set_details(f"no word is like {word.value!r}")
        return StringValue(value=found or "")

    async def Follow(self, words):
        async for word in words:
            yield StringValue(value=self.nearest(word.value) or word.value)


app = Speller.bind()
FUNCTIONS = ["grpc_spelling.add_SpellerServicer_to_server"]


def main():
    serve.start(http_options={"port": 0}, grpc_options={"port": 0, "grpc_servicer_functions": FUNCTIONS})
    serve.run(app)
    (address,) = (one for one in serve.status().proxies if one.startswith("grpc://"))
    with grpc.insecure_channel(address.removeprefix("grpc://")) as channel:
        text = (StringValue.SerializeToString, StringValue.FromString)
        correct = channel.unary_unary("/spelling.Speller/Correct", *text)
        print("excepton is", correct(StringValue(value="excepton"), timeout=30).value)
        try:
            correct(StringValue(value="zzzzzz"))
        except grpc.RpcError as error:
            print(error.code().name, error.details())
        follow = channel.stream_stream("/spelling.Speller/Follow", *text)
        typed = "an iterabel object retruns its membres"
        words = (StringValue(value=word) for word in typed.split())
        print(*(word.value for word in follow(words)))
    serve.shutdown()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        print("gRPC at 127.0.0.1:9000")
        serve.start(grpc_options={"port": 9000, "grpc_servicer_functions": FUNCTIONS})
        serve.run(app, blocking=True)
    else:
        main()
