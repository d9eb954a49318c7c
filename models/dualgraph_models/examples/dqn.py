"""Deep Q-learning: a network learns what each step in a windy corridor is worth."""

import argparse
import math
import random
from collections import deque, namedtuple
from itertools import count

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward"))


class Corridor:
    """Ten places in a row; the right end pays 1, the left one 0.2, and wind blows to the left."""

    def reset(self):
        self.place, self.time = 4, 0
        return self.observe()

    def observe(self):
        return [self.place / 9, self.time / 30]

    def step(self, action):
        self.time += 1
        move = 1 if action == 1 else -1
        if random.random() < 0.1:
            move = -1
        self.place = min(max(self.place + move, 0), 9)
        terminated = self.place in (0, 9)
        reward = {0: 0.2, 9: 1.0}.get(self.place, -0.01)
        return self.observe(), reward, terminated, self.time >= 30


class ReplayMemory:
    """The last transitions, to draw from."""

    def __init__(self, capacity):
        self.memory = deque(maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    """A state -> the worth of each action."""

    def __init__(self, n_observations, n_actions):
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 64)
        self.layer2 = nn.Linear(64, 64)
        self.layer3 = nn.Linear(64, n_actions)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


def main():
    """Read the options, and learn by playing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--tau", type=float, default=0.02, help="of the target network's update")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    env = Corridor()
    policy_net = DQN(2, 2).to(device)
    target_net = DQN(2, 2).to(device)
    target_net.load_state_dict(policy_net.state_dict())
    optimizer = optim.AdamW(policy_net.parameters(), lr=args.lr, amsgrad=True)
    memory = ReplayMemory(2000)
    steps_done = 0

    def select_action(state):
        nonlocal steps_done
        eps_threshold = 0.05 + 0.85 * math.exp(-steps_done / 200)
        steps_done += 1
        if random.random() > eps_threshold:
            with torch.no_grad():
                return policy_net(state).max(1).indices.view(1, 1)
        return torch.tensor([[random.randrange(2)]], device=device, dtype=torch.long)

    def optimize_model():
        if len(memory) < args.batch_size:
            return
        batch = Transition(*zip(*memory.sample(args.batch_size)))
        non_final_mask = torch.tensor(
            tuple(s is not None for s in batch.next_state), device=device, dtype=torch.bool
        )
        non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
        state_batch = torch.cat(batch.state)
        action_batch = torch.cat(batch.action)
        reward_batch = torch.cat(batch.reward)
        state_action_values = policy_net(state_batch).gather(1, action_batch)
        next_state_values = torch.zeros(args.batch_size, device=device)
        with torch.no_grad():
            next_state_values[non_final_mask] = target_net(non_final_next_states).max(1).values
        expected = (next_state_values * args.gamma) + reward_batch
        loss = nn.SmoothL1Loss()(state_action_values, expected.unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
        optimizer.step()

    durations = []
    for _ in range(args.episodes):
        state = torch.tensor(env.reset(), dtype=torch.float32, device=device).unsqueeze(0)
        for t in count():
            action = select_action(state)
            observation, reward, terminated, truncated = env.step(action.item())
            reward = torch.tensor([reward], device=device)
            next_state = None
            if not terminated:
                next_state = torch.tensor(observation, dtype=torch.float32, device=device)
                next_state = next_state.unsqueeze(0)
            memory.push(state, action, next_state, reward)
            state = next_state
            optimize_model()
            with torch.no_grad():
                target_state = target_net.state_dict()
                policy_state = policy_net.state_dict()
                for key in policy_state:
                    target_state[key] = policy_state[key] * args.tau + target_state[key] * (
                        1 - args.tau
                    )
                target_net.load_state_dict(target_state)
            if terminated or truncated:
                durations.append(t + 1)
                break
    mean = torch.tensor(durations[-20:], dtype=torch.float).mean()
    print(f"steps an episode, of the last ones: {mean:.2f}")


if __name__ == "__main__":
    main()
