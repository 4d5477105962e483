"""A federated training simulated on Ray: ten clients, three rounds."""

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

results = []


class Client(NumPyClient):
    def __init__(self, seed: int) -> None:
        self.data = np.random.default_rng(seed).normal(loc=3.0, size=100)

    def fit(self, parameters, config):
        return [parameters[0] + 0.5 * (self.data.mean() - parameters[0])], len(self.data), {}

    def evaluate(self, parameters, config):
        return float(((self.data - parameters[0]) ** 2).mean()), len(self.data), {}


def client(context: Context):
    return Client(int(context.node_config["partition-id"])).to_client()


class Strategy(FedAvg):
    def aggregate_evaluate(self, server_round, found, failures):
        assert not failures, failures
        loss = super().aggregate_evaluate(server_round, found, failures)
        results.append(loss[0])
        return loss


def server(context: Context):
    strategy = Strategy(initial_parameters=ndarrays_to_parameters([np.zeros(1)]))
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=3))


if __name__ == "__main__":
    run_simulation(
        server_app=ServerApp(server_fn=server),
        client_app=ClientApp(client_fn=client),
        num_supernodes=10,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    assert len(results) == 3, results
    assert results[0] > results[1] > results[2], results
    print("passed", results)
