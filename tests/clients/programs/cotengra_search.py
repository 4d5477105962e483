"""A contraction tree searched for by workers of Ray, and sliced contractions that it runs."""

import cotengra as ctg
import numpy as np
import ray

inputs, output, shapes, size_dict = ctg.utils.lattice_equation([4, 4], d_max=3, seed=1)
ray.init(num_cpus=2)
optimizer = ctg.HyperOptimizer(methods=["greedy"], max_repeats=16, parallel="ray", progbar=False)
tree = optimizer.search(inputs, output, size_dict)
sliced = tree.slice(target_slices=4)
arrays = [np.random.default_rng(0).normal(size=shape) for shape in shapes]
futures = [
    ray.remote(lambda arrays, i: sliced.contract_slice(arrays, i)).remote(arrays, i)
    for i in range(sliced.nslices)
]
assert np.allclose(sum(ray.get(futures)), tree.contract(arrays))
print("passed", len(optimizer.scores))
