"""
How do I use an image beside numbers?
=====================================

Many tables hold an image and numbers in each row: a photograph and a price, a scan and
an age. In a ``ColumnTransformer``, a feature extractor turns the image into columns
beside the others.
"""

# %%
# A table of parts: a picture, a size and a weight. The shape can be seen, but not the
# material; size and weight together give the material, but not the shape.
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FeatureExtractor
from sktransfer.datasets import make_shapes

temporary = TemporaryDirectory()
folder = Path(temporary.name)
shapes = make_shapes(400, image_size=64, n_classes=3, random_state=0)
paths = [folder / f"{number:03}.png" for number in range(len(shapes.data))]
for path, image in zip(paths, shapes.data, strict=True):
    Image.fromarray(image).save(path)

rng = np.random.default_rng(0)
size = rng.uniform(20, 40, len(paths))  # mm
material = rng.choice(["wood", "steel"], len(paths))
density = np.where(material == "wood", 0.0007, 0.0078)  # g per cubic mm
weight = density * size**3 * rng.uniform(0.5, 1.0, len(paths))
parts = pd.DataFrame({"picture": paths, "size": size, "weight": weight})
kind = np.char.add(np.char.add(material.astype(str), " "), shapes.target.astype(str))
print(parts.assign(picture=[path.name for path in paths], kind=kind).head())

# %%
# The extractor takes the column of paths. The name of the column is passed as a string,
# not in a list, so that the extractor gets a column and no table. A picture has 1,280
# features, among which two numbers would drown; a PCA keeps ten.
features = make_pipeline(
    FeatureExtractor(), StandardScaler(), PCA(10, whiten=True, random_state=0)
)
picture = ("picture", features, "picture")
numbers = ("numbers", StandardScaler(), ["size", "weight"])
train, test, y_train, y_test = train_test_split(
    parts, kind, train_size=200, random_state=0, stratify=kind
)
accuracy = {}
for name, columns in {
    "numbers alone": [numbers],
    "picture alone": [picture],
    "both": [picture, numbers],
}.items():
    model = make_pipeline(ColumnTransformer(columns), LogisticRegression(max_iter=1000))
    model.fit(train, y_train)
    accuracy[name] = model.score(test, y_test)
    print(f"{name}: test accuracy {accuracy[name]:.3f}")

# %%
# The features of a picture are computed once: the second model that asks for them finds
# them in the activation cache.
figure, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
bars = ax.barh(list(accuracy), list(accuracy.values()), color="#0072b2")
ax.bar_label(bars, fmt="{:.0%}", padding=3)
ax.set(xlim=(0, 1.1), xlabel="Test accuracy, six kinds of parts")
ax.invert_yaxis()
temporary.cleanup()
plt.show()
