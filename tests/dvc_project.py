"""A project whose data DVC keeps: what DVC 3.67.1 wrote for ``dvc add data/images labels.csv`` and ``dvc repro``.

``PROJECT`` is what Git holds, for ``str.format`` with the remote's ``url``; ``REMOTE`` what ``dvc push`` put there.
"""

from pathlib import Path

PROJECT = {
    ".dvc/config": "[core]\n    remote = storage\n['remote \"storage\"']\n    url = {url}\n",
    "params.yaml": "lr: 0.001\nmodel: {{width: 64, layers: [8, 16], dropout: null, flip: true}}\n",
    "summary.json": "{{}}\n",
    "dvc.yaml": """stages:
  scale:
    cmd: sort data/images/a.bin data/images/deep/b.bin > scaled.bin && echo {{}} > summary.json
    deps: [data/images]
    params: [lr]
    outs: [scaled.bin]
    metrics:
    - summary.json: {{cache: false}}
""",
    "dvc.lock": """schema: '2.0'
stages:
  scale:
    cmd: sort data/images/a.bin data/images/deep/b.bin > scaled.bin && echo {{}} >
      summary.json
    deps:
    - path: data/images
      hash: md5
      md5: acfb5a22fc8aa93c2ffad26b928db4f6.dir
      size: 7
      nfiles: 2
    params:
      params.yaml:
        lr: 0.001
    outs:
    - path: scaled.bin
      hash: md5
      md5: 2094b601daac3d68f5aed51d3c20f7cd
      size: 8
    - path: summary.json
      hash: md5
      md5: 8a80554c91d9fca8acb82f023de02f11
      size: 3
""",
    "data/images.dvc": """outs:
- md5: acfb5a22fc8aa93c2ffad26b928db4f6.dir
  size: 7
  nfiles: 2
  hash: md5
  path: images
""",
    "labels.csv.dvc": """outs:
- md5: 344fd2323dd33d5c058b7cf27de029e8
  size: 8
  hash: md5
  path: labels.csv
""",
}
LISTING = (
    b'[{"md5": "f97c5d29941bfb1b2fdab0874906ab82", "relpath": "a.bin"},'
    b' {"md5": "c193497a1a06b2c72230e6146ff47080", "relpath": "deep/b.bin"}]'
)
REMOTE = {
    "files/md5/ac/fb5a22fc8aa93c2ffad26b928db4f6.dir": LISTING,
    "files/md5/f9/7c5d29941bfb1b2fdab0874906ab82": b"one",
    "files/md5/c1/93497a1a06b2c72230e6146ff47080": b"two\n",
    "files/md5/20/94b601daac3d68f5aed51d3c20f7cd": b"one\ntwo\n",
    "files/md5/34/4fd2323dd33d5c058b7cf27de029e8": b"x,y\n1,2\n",
}


def write(folder: Path, url: str) -> Path:
    """The project as Git holds it, with a remote at a URL; its folder."""
    for name, content in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content.format(url=url))
    return folder
