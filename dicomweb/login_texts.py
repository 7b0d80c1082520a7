"""The sentences of the login, by language and name."""

from dicomweb.pages import Texts

TEXTS: Texts = {
    "en": {
        "title": "Sign in",
        "name": "Name",
        "password": "Password",
        "sign_in": "Sign in",
        "wrong": "Name or password is wrong.",
        "wait": "There were too many wrong passwords. Wait a little and try again.",
        "leave": "Sign out",
        "leave_question": "You are signed in as {who}.",
        "nobody": "You are not signed in.",
    },
    "fr": {
        "title": "Connexion",
        "name": "Nom",
        "password": "Mot de passe",
        "sign_in": "Se connecter",
        "wrong": "Le nom ou le mot de passe est faux.",
        "wait": "Trop de mots de passe faux. Attendez un peu et réessayez.",
        "leave": "Déconnexion",
        "leave_question": "Vous êtes connecté sous le nom {who}.",
        "nobody": "Vous n'êtes pas connecté.",
    },
    "ar": {
        "title": "تسجيل الدخول",
        "name": "اسم المستخدم",
        "password": "كلمة السر",
        "sign_in": "دخول",
        "wrong": "اسم المستخدم أو كلمة السر غير صحيحة.",
        "wait": "محاولات خاطئة كثيرة. انتظر قليلا ثم أعد المحاولة.",
        "leave": "تسجيل الخروج",
        "leave_question": "أنت مسجل الدخول باسم {who}.",
        "nobody": "لم تسجل الدخول.",
    },
}
