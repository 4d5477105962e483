"""Game-tree search: tasks start tasks; tic-tac-toe is searched to the end, and is a draw."""

import ray

LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def winner(board):
    return next((board[a] for a, b, c in LINES if board[a] != "." and board[a] == board[b] == board[c]), None)


def moves(board):
    return [index for index, field in enumerate(board) if field == "."]


def play(board, move, player):
    return board[:move] + player + board[move + 1 :]


def search(board, player):
    """Return the best result for X and how many positions were looked at."""
    won = winner(board)
    if won or "." not in board:
        return (1 if won == "X" else -1 if won == "O" else 0), 1
    results = [search(play(board, move, player), "O" if player == "X" else "X") for move in moves(board)]
    best = max if player == "X" else min
    return best(value for value, _ in results), 1 + sum(count for _, count in results)


@ray.remote
def search_here(board, player):
    return search(board, player)


@ray.remote
def search_below(board, player, depth):
    """Start a task for each move, down to a depth; from there on search in place."""
    other = "O" if player == "X" else "X"
    boards = [play(board, move, player) for move in moves(board)]
    if depth == 1:
        results = ray.get([search_here.remote(one, other) for one in boards])
    else:
        results = ray.get([search_below.remote(one, other, depth - 1) for one in boards])
    best = max if player == "X" else min
    return best(value for value, _ in results), 1 + sum(count for _, count in results)


ray.init(num_cpus=2, log_to_driver=False)
value, positions = ray.get(search_below.remote("X...O....", "X", 2))
print("with perfect play:", {1: "X wins", 0: "a draw", -1: "O wins"}[value])
print(f"{positions} positions")
