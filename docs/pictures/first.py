import skate


@skate.remote
def square(x):
    return x * x


@skate.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self, k):
        self.n += k
        return self.n


counter = Counter.remote()
for value in skate.get([square.remote(i) for i in range(4)]):
    counter.add.remote(value)
print(skate.get(counter.add.remote(0)))
