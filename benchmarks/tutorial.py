"""The PyTorch Quickstart as one plain script: the reference for times; needs data/FashionMNIST."""

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor


class NeuralNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear_relu_stack(self.flatten(x))


def train(data: DataLoader, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for batch, (images, labels) in enumerate(data):
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if batch % 100 == 0:
            print(f"loss: {loss.item():>7f} [{batch * len(images):>5d}]")


def test(data: DataLoader, model: nn.Module) -> None:
    model.eval()
    loss = correct = count = 0.0
    with torch.no_grad():
        for images, labels in data:
            logits = model(images)
            loss += nn.functional.cross_entropy(logits, labels).item() / len(data)
            correct += (logits.argmax(1) == labels).sum().item()
            count += len(labels)
    print(f"Accuracy: {correct / count:.4f}, mean loss of a batch: {loss:.4f}")


def main() -> None:
    torch.manual_seed(0)
    model = NeuralNetwork()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    training, testing = (
        DataLoader(FashionMNIST(root="data", train=train, transform=ToTensor()), batch_size=64)
        for train in (True, False)
    )
    for epoch in range(5):
        print(f"Epoch {epoch + 1}")
        train(training, model, optimizer)
        test(testing, model)
    image, label = testing.dataset[0]
    with torch.no_grad():
        guess = model(image[None]).argmax(1).item()
    names = FashionMNIST.classes
    print(f'Predicted: "{names[guess]}", Actual: "{names[label]}"')


if __name__ == "__main__":
    main()
