"""
How far do pretrained features go without fine-tuning?
======================================================

A pretrained network turns every image into a row of numbers, its features. Putting a
linear model on top of them is the cheapest way to use it. As a Pipeline, the two are
one scikit-learn object.
"""

# %%
# 200 labelled images of six shapes, and 600 to test on. Sizes, places and colours are
# random, so single pixels say little about the shape.
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import FeatureExtractor
from sktransfer.datasets import make_shapes

X, y = make_shapes(800, n_classes=6, random_state=0, return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=200, random_state=0, stratify=y
)

# %%
# The extractor is the first step of a Pipeline. A search over the rest of the Pipeline
# computes the features of each image only once, because they are kept in the activation
# cache. For comparison, the same search runs on the pixels themselves.
first_steps = {
    "pixels": FunctionTransformer(lambda images: images.reshape(len(images), -1) / 255),
    "features": FeatureExtractor("mini_resnet18"),
}
accuracy = {}
for name, first_step in first_steps.items():
    search = GridSearchCV(
        make_pipeline(first_step, StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]},
    )
    search.fit(X_train, y_train)
    accuracy[name] = search.score(X_test, y_test)
    print(
        f"LogisticRegression on {search.best_estimator_[-1].n_features_in_:,} {name}: "
        f"test accuracy {accuracy[name]:.3f} with {search.best_params_}"
    )

# %%
# Both in a picture: first the 50 directions in which the training images vary most,
# then, among these, the plane that separates their classes best. The points are test
# images.
figure, panels = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
for ax, (name, first_step) in zip(panels, first_steps.items(), strict=True):
    plane = make_pipeline(
        first_step,
        StandardScaler(),
        PCA(50),
        LinearDiscriminantAnalysis(n_components=2),
    )
    points = plane.fit(X_train, y_train).transform(X_test)
    for shape, marker in zip(plane.classes_, "os^Pv*", strict=True):
        ax.scatter(*points[y_test == shape].T, s=14, marker=marker, label=shape)
    ax.set(title=f"{name}: accuracy {accuracy[name]:.2f}", xticks=[], yticks=[])
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=6)
plt.show()
