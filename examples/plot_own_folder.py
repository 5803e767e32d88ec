"""
How do I classify a folder of my own images?
============================================

Images are usually files, in one folder per class. Their paths are all that an estimator
needs: it reads and resizes the files itself.
"""

# %%
# A folder to start with; use your own instead. Each class has a sub-folder.
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib import pyplot as plt
from PIL import Image
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split

from sktransfer import ConfusedPairsDisplay, TransferClassifier
from sktransfer.datasets import load_image_folder, make_shapes

temporary = TemporaryDirectory()
folder = Path(temporary.name)
shapes = make_shapes(360, image_size=48, n_classes=6, noise=0.2, random_state=0)
for number, (image, label) in enumerate(zip(shapes.data, shapes.target, strict=True)):
    (folder / label).mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / label / f"{number:04}.png")

# %%
# The names of the sub-folders are the labels.
found = load_image_folder(folder)
print(len(found.data), "images, such as", Path(found.data[0]).relative_to(folder))
paths_train, paths_test, y_train, y_test = train_test_split(
    found.data, found.target, train_size=180, random_state=0, stratify=found.target
)

# %%
# ``fit`` and ``predict`` take paths.
clf = TransferClassifier(random_state=0)
clf.fit(paths_train, y_train)
print(classification_report(y_test, clf.predict(paths_test), digits=3))

# %%
# The confusion matrix, beside images of the classes that are confused most often.
ConfusedPairsDisplay.from_estimator(clf, paths_test, y_test)
temporary.cleanup()
plt.show()
