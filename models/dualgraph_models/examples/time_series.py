"""Two LSTM cells learn to continue sine waves; L-BFGS trains them on the whole set at once."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


def sine_waves(count, length, period=20):
    """Waves that begin anywhere, float64 [count, length]."""
    np.random.seed(2)
    x = np.empty((count, length), "int64")
    x[:] = np.array(range(length)) + np.random.randint(-4 * period, 4 * period, count).reshape(
        count, 1
    )
    return np.sin(x / 1.0 / period).astype("float64")


class Sequence(nn.Module):
    """Each value of a series from those before it; `future` more from its own predictions."""

    def __init__(self, hidden=51):
        super().__init__()
        self.hidden = hidden
        self.lstm1 = nn.LSTMCell(1, hidden)
        self.lstm2 = nn.LSTMCell(hidden, hidden)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, input, future=0):
        outputs = []
        h_t = torch.zeros(input.size(0), self.hidden, dtype=torch.double, device=input.device)
        c_t = torch.zeros(input.size(0), self.hidden, dtype=torch.double, device=input.device)
        h_t2 = torch.zeros(input.size(0), self.hidden, dtype=torch.double, device=input.device)
        c_t2 = torch.zeros(input.size(0), self.hidden, dtype=torch.double, device=input.device)

        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for _ in range(future):
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        return torch.cat(outputs, dim=1)


def main():
    """Read the options, train, and predict after every step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5, help="of the optimizer")
    parser.add_argument("--max-iter", type=int, default=20, help="iterations of each step")
    parser.add_argument("--waves", type=int, default=20)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--future", type=int, default=100, help="values to predict")
    parser.add_argument("--line-search", choices=["strong_wolfe"])
    opt = parser.parse_args()
    np.random.seed(0)
    torch.manual_seed(0)

    data = sine_waves(opt.waves, opt.length)
    input = torch.from_numpy(data[3:, :-1])
    target = torch.from_numpy(data[3:, 1:])
    test_input = torch.from_numpy(data[:3, :-1])
    test_target = torch.from_numpy(data[:3, 1:])
    seq = Sequence(opt.hidden)
    seq.double()
    criterion = nn.MSELoss()
    optimizer = optim.LBFGS(
        seq.parameters(), lr=0.8, max_iter=opt.max_iter, line_search_fn=opt.line_search
    )
    for i in range(opt.steps):
        print("STEP: ", i)

        def closure():
            optimizer.zero_grad()
            out = seq(input)
            loss = criterion(out, target)
            print("loss:", loss.item())
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            pred = seq(test_input, future=opt.future)
            loss = criterion(pred[:, : -opt.future], test_target)
            print("test loss:", loss.item())
            y = pred.detach().numpy()
    print("predicted:", np.round(y[0, -opt.future :][:10], 3))


if __name__ == "__main__":
    main()
