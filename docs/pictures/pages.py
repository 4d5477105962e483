import time

import skate


@skate.remote
def read(page):
    time.sleep(4)
    return page


@skate.remote
class Index:
    def add(self, page):
        return page


index = Index.remote()
pages = [read.remote(number) for number in range(4)]
skate.get([index.add.remote(page) for page in pages])
